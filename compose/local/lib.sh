# shellcheck shell=bash disable=SC2034 # some names are for those who source this
# What the scripts here share: podman with storage, settings and networks of its own, so that
# nothing of this mixes with the images of whoever runs it. Sourced, never run.

CACHE="${PENSTOCK_IMAGES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/penstock/images}"
REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
BUILDER=localhost/penstock-builder:bookworm
RUNTIME=localhost/penstock-runtime:bookworm
TARGETS=(ingest processor remap sink query penstock)

die() { printf '%s: %s\n' "${0##*/}" "$1" >&2; exit 1; }
note() { printf '%s: %s\n' "${0##*/}" "$1" >&2; }

# Installs what is missing of the named Debian packages.
need_packages() {
    local missing=() name
    for name in "$@"; do
        dpkg-query --show --showformat='${Status}' "$name" 2>/dev/null | grep -q ' installed$' || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    note "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Writes podman's settings once and points everything that calls podman at them.
use_podman() {
    [ "$(id -u)" = 0 ] || die 'run this as root: containers get memory limits and a network here'
    need_packages podman buildah runc netavark aardvark-dns iptables
    mkdir -p "$CACHE/networks"
    export CONTAINERS_CONF="$CACHE/containers.conf" CONTAINERS_STORAGE_CONF="$CACHE/storage.conf"
    # runc and cgroupfs because neither systemd nor cgroups of version 2 are there everywhere.
    cat > "$CONTAINERS_CONF" <<C
[containers]
default_ulimits = ["nofile=1024:$(ulimit -Hn)", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "$CACHE/networks"
C
    if [ ! -r "$CONTAINERS_STORAGE_CONF" ]; then
        local driver=overlay
        overlay_works || driver=vfs
        cat > "$CONTAINERS_STORAGE_CONF" <<C
[storage]
driver = "$driver"
graphroot = "$CACHE/storage"
runroot = "$CACHE/run"
C
    fi
}

# Overlays cannot lie on an overlay, as inside a container.
overlay_works() {
    local dir worked=1
    dir="$(mktemp -d "$CACHE/overlay.XXXXXX")"
    mkdir "$dir/lower" "$dir/upper" "$dir/work" "$dir/merged"
    if mount -t overlay overlay -o "lowerdir=$dir/lower,upperdir=$dir/upper,workdir=$dir/work" "$dir/merged" 2>/dev/null; then
        umount "$dir/merged"
        worked=0
    fi
    rm -rf "$dir"
    return "$worked"
}

has_image() { podman image exists "$1"; }
