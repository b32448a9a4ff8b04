//! Cargo does not see the files that `sqlx::migrate!` reads.
fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
