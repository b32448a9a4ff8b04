#!/bin/bash
# Builds libsecp256k1 from Debian's source package, the way upstream does, with the modules that
# Debian enables, and a self test that the finished image runs as its smoke command.
set -euo pipefail

: "${SRC:?}" "${OUT:?}" "${DEBUG:?}" "${WORK:?}" "${JOBS:?}" "${ARCH:?}" "${TRIPLET:?}" "${SYSROOT:?}"
: "${CC:?}" "${AR:?}" "${RANLIB:?}" "${NM:?}" "${STRIP:?}" "${OBJCOPY:?}" "${SOURCE_DATE_EPOCH:?}"

# One name for the sources in debug information, wherever they were built.
cflags="-O2 -g -ffile-prefix-map=$SRC=/usr/src/secp256k1 -ffile-prefix-map=$WORK=/usr/src/secp256k1/work"
cflags+=" -fstack-protector-strong -fstack-clash-protection -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3"
case "$ARCH" in
    amd64) cflags+=" -fcf-protection=full" ;;
    arm64) cflags+=" -mbranch-protection=standard" ;;
    *) echo "build.sh: no flags are known for architecture $ARCH" >&2; exit 1 ;;
esac
ldflags="-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed -Wl,--build-id=sha1"
cc="$CC --sysroot=$SYSROOT"

# Debian's changes come as a series of patches beside the upstream tree; there may be none.
if [ -f "$SRC/debian/patches/series" ]; then
    while read -r name _; do
        case "$name" in '' | '#'*) continue ;; esac
        patch --directory="$SRC" --strip=1 --forward --input="$SRC/debian/patches/$name"
    done < "$SRC/debian/patches/series"
fi

# The source package holds upstream's tree without generated files.
(cd "$SRC" && autoreconf --install)

# --build differs from --host for every platform, so that configure never runs what it compiles:
# both platforms take the same way.
mkdir -p "$WORK/build" "$WORK/stage"
cd "$WORK/build"
"$SRC/configure" --build=x86_64-pc-linux-gnu --host="$TRIPLET" --prefix=/usr --libdir=/usr/lib \
    --with-sysroot="$SYSROOT" --disable-dependency-tracking --disable-static \
    --enable-module-ecdh --enable-module-extrakeys --enable-module-recovery --enable-module-schnorrsig \
    --disable-tests --disable-exhaustive-tests --disable-benchmark --with-valgrind=no \
    CC="$cc" AR="$AR" RANLIB="$RANLIB" NM="$NM" STRIP="$STRIP" CFLAGS="$cflags" LDFLAGS="$ldflags"
make -j "$JOBS"
make install DESTDIR="$WORK/stage"

cat > "$WORK/selftest.c" <<'C'
/* Known answers against the image's own libsecp256k1; prints one line, needs no randomness. */
#include <stdio.h>
#include <string.h>
#include <secp256k1.h>
#include <secp256k1_ecdh.h>
#include <secp256k1_extrakeys.h>
#include <secp256k1_recovery.h>
#include <secp256k1_schnorrsig.h>

static void bytes(unsigned char *out, const char *hex) {
    unsigned int value;
    for (; *hex; hex += 2) {
        if (sscanf(hex, "%2x", &value) != 1) value = 0;
        *out++ = (unsigned char)value;
    }
}

static int check(int holds, const char *what) {
    if (!holds) fprintf(stderr, "secp256k1-selftest: %s failed\n", what);
    return holds;
}

/* Key 1 over sha256("Satoshi Nakamoto"), nonce after RFC 6979. */
static int ecdsa(secp256k1_context *ctx) {
    unsigned char key[32] = {0}, msg[32], want[64], got[64];
    secp256k1_pubkey pub, found;
    secp256k1_ecdsa_signature sig;
    secp256k1_ecdsa_recoverable_signature rec;
    key[31] = 1;
    bytes(msg, "a0dc65ffca799873cbea0ac274015b9526505daaaed385155425f7337704883e");
    bytes(want, "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
                "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5");
    if (!check(secp256k1_ec_pubkey_create(ctx, &pub, key)
               && secp256k1_ecdsa_sign(ctx, &sig, msg, key, NULL, NULL)
               && secp256k1_ecdsa_signature_serialize_compact(ctx, got, &sig)
               && memcmp(got, want, 64) == 0, "the ECDSA known answer")) return 0;
    if (!check(secp256k1_ecdsa_sign_recoverable(ctx, &rec, msg, key, NULL, NULL)
               && secp256k1_ecdsa_recover(ctx, &found, &rec, msg)
               && secp256k1_ec_pubkey_cmp(ctx, &pub, &found) == 0, "key recovery")) return 0;
    if (!check(secp256k1_ecdsa_verify(ctx, &sig, msg, &pub), "ECDSA verification")) return 0;
    msg[0] ^= 1;
    return check(!secp256k1_ecdsa_verify(ctx, &sig, msg, &pub), "refusing a wrong ECDSA signature");
}

/* Vector 0 of BIP 340. */
static int schnorr(secp256k1_context *ctx) {
    unsigned char key[32] = {0}, aux[32] = {0}, msg[32] = {0}, want[64], got[64];
    secp256k1_keypair pair;
    secp256k1_xonly_pubkey pub;
    key[31] = 3;
    bytes(want, "e907831f80848d1069a5371b402410364bdf1c5f8307b0084c55f1ce2dca8215"
                "25f66a4a85ea8b71e482a74f382d2ce5ebeee8fdb2172f477df4900d310536c0");
    if (!check(secp256k1_keypair_create(ctx, &pair, key)
               && secp256k1_keypair_xonly_pub(ctx, &pub, NULL, &pair)
               && secp256k1_schnorrsig_sign32(ctx, got, msg, &pair, aux)
               && memcmp(got, want, 64) == 0, "the Schnorr known answer")) return 0;
    if (!check(secp256k1_schnorrsig_verify(ctx, got, msg, 32, &pub), "Schnorr verification")) return 0;
    got[63] ^= 1;
    return check(!secp256k1_schnorrsig_verify(ctx, got, msg, 32, &pub), "refusing a wrong Schnorr signature");
}

static int ecdh(secp256k1_context *ctx) {
    unsigned char a[32] = {0}, b[32] = {0}, ab[32], ba[32];
    secp256k1_pubkey pub_a, pub_b;
    a[31] = 5;
    b[31] = 7;
    return check(secp256k1_ec_pubkey_create(ctx, &pub_a, a) && secp256k1_ec_pubkey_create(ctx, &pub_b, b)
                 && secp256k1_ecdh(ctx, ab, &pub_b, a, NULL, NULL)
                 && secp256k1_ecdh(ctx, ba, &pub_a, b, NULL, NULL)
                 && memcmp(ab, ba, 32) == 0, "ECDH");
}

int main(void) {
    secp256k1_context *ctx = secp256k1_context_create(SECP256K1_CONTEXT_NONE);
    int good = check(ctx != NULL, "making a context") && ecdsa(ctx) && schnorr(ctx) && ecdh(ctx);
    if (ctx != NULL) secp256k1_context_destroy(ctx);
    if (good) puts("secp256k1-selftest: ecdsa, recovery, schnorrsig and ecdh give the known answers");
    return good ? 0 : 1;
}
C
# shellcheck disable=SC2086 # the flags are lists of words
$cc $cflags -Wall -Wextra -Werror -fPIE -pie $ldflags -I"$WORK/stage/usr/include" "$WORK/selftest.c" \
    -L"$WORK/stage/usr/lib" -lsecp256k1 -o "$WORK/secp256k1-selftest"

# What the image holds, with modes of its own: the umask must not show.
install -d -m 755 "$OUT/usr" "$OUT/usr/bin" "$OUT/usr/include" "$OUT/usr/lib" "$OUT/usr/lib/pkgconfig"
install -d -m 755 "$DEBUG/usr" "$DEBUG/usr/lib" "$DEBUG/usr/lib/debug" "$DEBUG/usr/lib/debug/usr"

# split FILE PATH STRIP-OPTION: PATH without symbols into $OUT, its debug information into $DEBUG.
split() {
    local debug="$DEBUG/usr/lib/debug/$2.debug"
    install -d -m 755 "$(dirname "$debug")"
    "$OBJCOPY" --only-keep-debug "$1" "$debug"
    chmod 644 "$debug"
    "$STRIP" "$3" -o "$WORK/stripped" "$1"
    "$OBJCOPY" --add-gnu-debuglink="$debug" "$WORK/stripped"
    install -m 755 "$WORK/stripped" "$OUT/$2"
}

for path in "$WORK"/stage/usr/lib/libsecp256k1.so*; do
    name=$(basename "$path")
    if [ -L "$path" ]; then
        ln -s "$(readlink "$path")" "$OUT/usr/lib/$name"
    else
        split "$path" "usr/lib/$name" --strip-unneeded
    fi
done
split "$WORK/secp256k1-selftest" usr/bin/secp256k1-selftest --strip-all
install -m 644 "$WORK"/stage/usr/include/secp256k1*.h "$OUT/usr/include/"
install -m 644 "$WORK/stage/usr/lib/pkgconfig/libsecp256k1.pc" "$OUT/usr/lib/pkgconfig/"
