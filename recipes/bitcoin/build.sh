#!/bin/bash
# Builds bitcoind and bitcoin-cli from a Bitcoin Core tree. Recipes choose by environment:
#   HAB_WALLET       ON: the wallet, with SQLite (default OFF)
#   HAB_ZMQ          ON: ZeroMQ notifications; needs the input zeromq3 (default OFF)
#   HAB_ASMAP        ON: embed the tree's default ASMap data (default OFF)
# Everything but the C library is linked statically.
set -euo pipefail

: "${SRC:?}" "${OUT:?}" "${DEBUG:?}" "${WORK:?}" "${JOBS:?}" "${ARCH:?}" "${TRIPLET:?}" "${SYSROOT:?}"
: "${CC:?}" "${CXX:?}" "${AR:?}" "${RANLIB:?}" "${NM:?}" "${STRIP:?}" "${OBJCOPY:?}" "${SOURCE_DATE_EPOCH:?}"
inputs=/build/inputs
tree=$SRC
wallet=${HAB_WALLET:-OFF}
zmq=${HAB_ZMQ:-OFF}
static=$WORK/static # libraries to link statically, and nothing else, where CMake looks first
libs=$SYSROOT/usr/lib/$TRIPLET

# One name for the sources wherever they were built. Not -ffile-prefix-map: GCC applies it before the
# tree's own -fmacro-prefix-map, and log lines would show whole paths instead of init.cpp:123.
flags="-fdebug-prefix-map=$SRC=/usr/src/bitcoin -fdebug-prefix-map=$WORK=/usr/src/bitcoin/work"
flags+=" -fmacro-prefix-map=$SRC=/usr/src/bitcoin -fmacro-prefix-map=$WORK=/usr/src/bitcoin/work"
flags+=" -fstack-protector-strong -fstack-clash-protection -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3"
case "$ARCH" in
    amd64) processor=x86_64; loader=ld-linux-x86-64.so.2; flags+=" -fcf-protection=full" ;;
    arm64) processor=aarch64; loader=ld-linux-aarch64.so.1; flags+=" -mbranch-protection=standard" ;;
    *) echo "build.sh: no flags are known for architecture $ARCH" >&2; exit 1 ;;
esac

# CMAKE_SYSTEM_NAME makes CMake treat both platforms as foreign: it runs nothing that it compiles.
mkdir -p "$static/lib/pkgconfig" "$WORK/stage"
cat > "$WORK/toolchain.cmake" <<CMAKE
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR $processor)
set(CMAKE_SYSROOT $SYSROOT)
set(CMAKE_LIBRARY_ARCHITECTURE $TRIPLET)
set(CMAKE_C_COMPILER $CC)
set(CMAKE_CXX_COMPILER $CXX)
set(CMAKE_AR $(command -v "$AR"))
set(CMAKE_RANLIB $(command -v "$RANLIB"))
set(CMAKE_NM $(command -v "$NM"))
set(CMAKE_STRIP $(command -v "$STRIP"))
set(CMAKE_OBJCOPY $(command -v "$OBJCOPY"))
set(CMAKE_C_FLAGS_INIT "$flags")
# -g1: functions and lines, enough for a backtrace, at half the build time and a third of the size.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g1" CACHE STRING "")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1" CACHE STRING "")
set(CMAKE_CXX_FLAGS_INIT "$flags")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static-libgcc -static-libstdc++ -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed -Wl,--build-id=sha1")
set(CMAKE_FIND_ROOT_PATH $static $SYSROOT)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
CMAKE

# Debian ships libevent and SQLite both ways in one folder, and CMake prefers the shared one. So the
# archives get a folder of their own, and pkg-config sees only files that point there.
export PKG_CONFIG_LIBDIR=$static/lib/pkgconfig PKG_CONFIG_SYSTEM_INCLUDE_PATH=$SYSROOT/usr/include
unset PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
for name in libevent libevent_core libevent_extra libevent_pthreads; do
    cp "$libs/$name.a" "$static/lib/"
    sed -e "s|^prefix=.*|prefix=$SYSROOT/usr|" -e "s|^libdir=.*|libdir=$static/lib|" \
        "$libs/pkgconfig/$name.pc" > "$static/lib/pkgconfig/$name.pc"
done

# configure SOURCE FOLDER OPTION...: one way to call CMake for all trees.
configure() {
    local source=$1 folder=$2
    shift 2
    cmake -S "$source" -B "$folder" -G "Unix Makefiles" -DCMAKE_TOOLCHAIN_FILE="$WORK/toolchain.cmake" \
        -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_PREFIX_PATH="$static" "$@"
}

options=(
    -DENABLE_WALLET="$wallet" -DWITH_ZMQ="$zmq" -DWITH_EMBEDDED_ASMAP="${HAB_ASMAP:-OFF}"
    -DENABLE_IPC=OFF -DBUILD_TESTS=OFF -DBUILD_BENCH=OFF -DBUILD_GUI=OFF -DBUILD_BITCOIN_BIN=OFF
    -DBUILD_TX=OFF -DBUILD_UTIL=OFF -DBUILD_WALLET_TOOL=OFF -DBUILD_DAEMON=ON -DBUILD_CLI=ON
    -DINSTALL_MAN=OFF -DWITH_CCACHE=OFF
)
if [ "$wallet" = ON ]; then
    options+=(-DSQLite3_INCLUDE_DIR="$SYSROOT/usr/include" -DSQLite3_LIBRARY="$libs/libsqlite3.a")
fi

# Debian's libzmq.a wants libsodium, libpgm, libnorm and Kerberos; local notifications want none of
# them. So libzmq is built here, from Debian's source and with Debian's patches.
if [ "$zmq" = ON ]; then
    cp -R "$inputs/zeromq3" "$WORK/zeromq3"
    chmod -R u+w "$WORK/zeromq3"
    while read -r name _; do
        case "$name" in '' | '#'*) continue ;; esac
        patch --directory="$WORK/zeromq3" --strip=1 --forward --input="$WORK/zeromq3/debian/patches/$name"
    done < "$WORK/zeromq3/debian/patches/series"
    configure "$WORK/zeromq3" "$WORK/zeromq3-build" \
        -DCMAKE_INSTALL_PREFIX="$static" -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
        -DBUILD_SHARED=OFF -DBUILD_STATIC=ON -DBUILD_TESTS=OFF -DWITH_PERF_TOOL=OFF -DWITH_DOCS=OFF \
        -DENABLE_CPACK=OFF -DENABLE_CURVE=OFF -DWITH_LIBSODIUM=OFF -DWITH_LIBBSD=OFF -DENABLE_DRAFTS=OFF \
        -DENABLE_WS=OFF -DWITH_TLS=OFF -DENABLE_PRECOMPILED=OFF
    make -C "$WORK/zeromq3-build" -j "$JOBS" install
fi

configure "$tree" "$WORK/build" "${options[@]}"
make -C "$WORK/build" -j "$JOBS" bitcoind bitcoin-cli

# What the image holds, with modes of its own: the umask must not show.
install -d -m 755 "$OUT/usr" "$OUT/usr/bin"
install -d -m 755 "$DEBUG/usr" "$DEBUG/usr/lib" "$DEBUG/usr/lib/debug" "$DEBUG/usr/lib/debug/usr" \
    "$DEBUG/usr/lib/debug/usr/bin"
for name in bitcoind bitcoin-cli; do
    program=$WORK/build/bin/$name
    # The image has the C library and nothing more: a further need would only show when it starts.
    for need in $("$TRIPLET-readelf" -dW "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
        case "$need" in
            libc.so.6 | libm.so.6 | "$loader") ;;
            *) echo "build.sh: $name needs $need, which the image does not hold" >&2; exit 1 ;;
        esac
    done
    debug=$DEBUG/usr/lib/debug/usr/bin/$name.debug
    "$OBJCOPY" --only-keep-debug "$program" "$debug"
    chmod 644 "$debug"
    "$STRIP" --strip-all -o "$WORK/stage/$name" "$program"
    "$OBJCOPY" --add-gnu-debuglink="$debug" "$WORK/stage/$name"
    install -m 755 "$WORK/stage/$name" "$OUT/usr/bin/$name"
done
