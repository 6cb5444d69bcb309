#!/usr/bin/env bash
# Builds every image of compose/Dockerfile on the local base images, as localhost/penstock/NAME.
# Crates come from this machine's cargo, and what was compiled is kept for the next build.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
bash "$REPO/compose/local/base.sh"
use_podman

# What git knows of, as it is now: all images are of one state, whoever edits meanwhile.
context="$CACHE/context"
rm -rf "$context"
mkdir -p "$context"
(cd "$REPO" && git ls-files -z --cached --others --exclude-standard --deduplicate |
    while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
    tar --null --files-from=- -c) | tar -C "$context" -x
trap 'rm -rf "$context"' EXIT

cargo fetch --locked --quiet --manifest-path "$context/Cargo.toml"
mkdir -p "$CACHE/target"
revision="$(git -C "$REPO" rev-parse HEAD 2>/dev/null || echo unknown)"
for target in "${TARGETS[@]}"; do
    note "$target (${SECONDS}s)"
    # The volumes stand for the cache mounts of the Dockerfile, and for the builder's Rust.
    podman build --isolation=chroot --network=host --pull=never --layers --format docker --quiet \
        --build-arg BUILDER="$BUILDER" --build-arg RUNTIME="$RUNTIME" --build-arg REVISION="$revision" \
        --volume "$(rustc --print sysroot):/usr/local/rust:ro" \
        --volume "${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo/registry" \
        --volume "$CACHE/target:/build/target" \
        --file "$context/compose/Dockerfile" --target "$target" --tag "localhost/penstock/$target" "$context" \
        >"$CACHE/build.log" 2>&1 || { tail -n 60 "$CACHE/build.log" >&2; die "$target was not built"; }
done
podman image prune --force >/dev/null
note "all built (${SECONDS}s)"
