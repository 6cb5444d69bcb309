#!/usr/bin/env bash
# Makes the two base images of compose/Dockerfile from Debian's packages, without any registry of
# images: a builder (Debian with a C compiler; Rust is mounted from this machine) and a runtime
# (glibc and what belongs to it, like distroless/cc). Does nothing for those that exist.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_podman

if ! has_image "$BUILDER"; then
    need_packages debootstrap
    note 'the builder, by debootstrap'
    root="$(mktemp -d "$CACHE/builder.XXXXXX")"
    trap 'rm -rf "$root"' EXIT
    debootstrap --variant=minbase --include=gcc,g++,libc6-dev,make,perl,pkg-config,libssl-dev,ca-certificates \
        bookworm "$root" http://deb.debian.org/debian >"$CACHE/debootstrap.log" 2>&1 ||
        { tail -n 20 "$CACHE/debootstrap.log" >&2; die 'debootstrap failed'; }
    tar -C "$root" --exclude=./proc/* --exclude=./var/cache/apt/* --exclude=./var/lib/apt/lists/* \
        --exclude=./usr/share/doc/* --exclude=./usr/share/man/* --exclude=./usr/share/locale/* -c . |
        podman import --change 'ENV PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            --change 'ENV CARGO_HOME=/usr/local/cargo' - "$BUILDER" >/dev/null
    rm -rf "$root"
fi

if ! has_image "$RUNTIME"; then
    note 'the runtime, from its packages'
    root="$(mktemp -d "$CACHE/runtime.XXXXXX")"
    trap 'rm -rf "$root"' EXIT
    mkdir "$root/debs" "$root/root"
    chmod 755 "$root/root"
    apt-cache show libc6 >/dev/null 2>&1 || apt-get update -qq
    (cd "$root/debs" && apt-get -qq -o APT::Sandbox::User=root download \
        base-files netbase tzdata libc6 libgcc-s1 gcc-12-base)
    for package in "$root"/debs/*.deb; do dpkg-deb --extract "$package" "$root/root"; done
    printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' \
        > "$root/root/etc/passwd"
    printf 'root:x:0:\nnonroot:x:65532:\n' > "$root/root/etc/group"
    rm -rf "$root/root/usr/share/doc" "$root/root/usr/share/lintian"
    tar -C "$root/root" --exclude=./proc/* -c . | podman import - "$RUNTIME" >/dev/null
    rm -rf "$root"
fi
