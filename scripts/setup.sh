# Sourced by the other scripts: makes sure that there is an adapter to compute on.
# On Linux without any Vulkan driver it installs Mesa's software driver, and says so.

# Mesa complains where this is not set, as on machines without a desktop.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"

# Whether one of these files exists.
any_exists() {
    local file
    for file in "$@"; do
        if [ -e "$file" ]; then return 0; fi
    done
    return 1
}

# Drivers announce themselves by files in these folders; they are no use without the library that loads them.
has_vulkan() {
    if [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; then
        any_exists /usr/share/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json \
            "$HOME"/.local/share/vulkan/icd.d/*.json /run/opengl-driver/share/vulkan/icd.d/*.json || return 1
    fi
    any_exists /usr/lib/libvulkan.so.1 /usr/lib/*/libvulkan.so.1 /usr/lib64/libvulkan.so.1 \
        /usr/local/lib/libvulkan.so.1 /run/opengl-driver/lib/libvulkan.so.1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

install_software_driver() {
    echo "setup: no Vulkan driver is installed; installing Mesa's software driver (lavapipe)" >&2
    if command -v apt-get >/dev/null; then
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers libvulkan1
    elif command -v dnf >/dev/null; then
        as_root dnf install -y -q mesa-vulkan-drivers vulkan-loader
    elif command -v pacman >/dev/null; then
        as_root pacman -S --noconfirm --needed vulkan-swrast vulkan-icd-loader
    elif command -v apk >/dev/null; then
        as_root apk add --quiet mesa-vulkan-swrast vulkan-loader
    else
        echo "setup: no known package manager; install a Vulkan driver, for one Mesa's lavapipe, and its loader" >&2
        return 1
    fi >&2
}

require_rust() {
    if ! command -v cargo >/dev/null && [ -f "$HOME/.cargo/env" ]; then
        . "$HOME/.cargo/env"
    fi
    if ! command -v cargo >/dev/null; then
        echo "setup: cargo is missing; install Rust from https://rustup.rs" >&2
        return 1
    fi
}

require_rust
case "$(uname -s)" in
Linux)
    if ! has_vulkan; then
        install_software_driver
    fi
    ;;
Darwin) echo "setup: macOS brings Metal; nothing to install" >&2 ;;
*) echo "setup: Windows brings DirectX 12; nothing to install" >&2 ;;
esac
