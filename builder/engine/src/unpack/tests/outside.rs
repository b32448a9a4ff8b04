//! Whatever the names are, nothing lands outside the root.

use proptest::prelude::*;

use super::*;

fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab]",
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(String::new()),
        1 => Just("outside".to_owned()),
        1 => Just("bin".to_owned()),
        1 => "\\PC{1,3}",
    ]
}

fn path() -> impl Strategy<Value = String> {
    (any::<bool>(), proptest::collection::vec(component(), 1..5))
        .prop_map(|(slash, parts)| format!("{}{}", if slash { "/" } else { "" }, parts.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn no_entry_lands_outside_the_root(
        entries in proptest::collection::vec((path(), 0..4_u8, path()), 1..8),
        as_deb: bool,
        merged_usr: bool,
        reversed: bool,
    ) {
        let world = World::new();
        // Unpack each entry by itself, so that a refused one does not stop later ones, which may use a link that was
        // accepted.
        for (path, kind, target) in &entries {
            let entry = match kind {
                0 => file(path, "bad"),
                1 => directory(path),
                2 => link(path, target),
                _ => hard_link(path, target),
            };
            let bytes = tar(&[entry]);
            let bytes = if as_deb { deb(&bytes) } else { bytes };
            let order = if reversed { Order::Reversed } else { Order::AsIs };
            let _ = world.unpack_with(&bytes, &Options { merged_usr, order, ..Options::default() });
            world.assert_nothing_outside();
        }
        let all: Vec<_> = entries.iter().map(|(path, kind, target)| match kind {
            0 => file(path, "bad"),
            1 => directory(path),
            2 => link(path, target),
            _ => hard_link(path, target),
        }).collect();
        let _ = world.unpack(&tar(&all));
        world.assert_nothing_outside();
    }

    #[test]
    fn damaged_bytes_never_panic(at in 0_usize..4000, to: u8, cut in 0_usize..4000) {
        let plain = tar(&[directory("d"), file("d/f", &"text ".repeat(200)), link("l", "d/f"), hard_link("h", "d/f")]);
        let mut bytes = deb(&plain);
        let length = bytes.len();
        bytes[at % length] = to;
        bytes.truncate(cut.max(1).min(length).max(length * usize::from(cut % 2 == 0)));
        let world = World::new();
        let _ = world.unpack(&bytes);
        world.assert_nothing_outside();
    }
}
