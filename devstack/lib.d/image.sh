# shellcheck shell=bash
# Guest images: built by images/tiny and images/debian when absent, uploaded to Glance when
# absent. Sourced by all-in-one.

# known_images : their names, and after a tab what they are.
known_images() {
  printf 'tiny\tBusyBox, a few MiB, boots in seconds\n'
  printf 'tiny-ssh\tthe same with an SSH server and the guest agent\n'
  "$DEVSTACK/images/debian" --list
}

# as_admin COMMAND... : with the administrator's login in its environment.
as_admin() (
  # shellcheck disable=SC1091
  . "$DEVSTACK/openrc" && "$@"
)

# build_image NAME : images/NAME.qcow2, unless it is newer than what builds it.
build_image() {
  local name=$1 script=$DEVSTACK/images/debian sources=()
  if ! known_images | cut -f1 | grep -qxF -- "$name"; then
    fail "there is no image named '$name'" "Known ones: all-in-one image --list"
  fi
  case $name in tiny | tiny-ssh) script=$DEVSTACK/images/tiny ;; esac
  sources=("$script" "$DEVSTACK/images/disk.sh" "$script-recipes" "$script-root")
  # Older than any of its sources: built anew.
  if [ -e "$IMAGES/$name.qcow2" ] &&
    [ -z "$(find "${sources[@]}" -newer "$IMAGES/$name.qcow2" -type f 2>/dev/null)" ]; then
    return
  fi
  step "image $name" "$script" "$IMAGES/$name.qcow2" >&2
}

# image_in_glance NAME : prints the id of the active image of that name.
image_in_glance() {
  local name=$1 file=$IMAGES/$1.qcow2 id checksum options=()
  checksum=$(sha512sum "$file" | cut -d' ' -f1) || return
  id=$(as_admin openstack image list --public --name "$name" --status active -f value -c ID | head -n 1) || return
  if [ -n "$id" ] && [ "$(as_admin openstack image show -f json -c properties "$id" |
    sed -n 's/.*"os_hash_value": "\([0-9a-f]*\)".*/\1/p')" != "$checksum" ]; then
    # Built anew since: servers of the old one keep what they have.
    as_admin openstack image delete "$id" && id=
  fi
  case $name in
    tiny) options=(--min-ram 96) ;;
    tiny-ssh) options=(--min-ram 96 --property hw_qemu_guest_agent=yes) ;;
  esac
  [ -n "$id" ] || id=$(as_admin openstack image create --public "${options[@]}" --disk-format qcow2 --container-format bare \
    --file "$file" -f value -c id "$name") || return
  printf '%s\n' "$id"
}

image() {
  build_image "$1" || fail "the image $1 could not be built" "The whole log: $LOG/setup-image-$1.log"
  running glance-api || fail "Glance is not running: the image stays in $IMAGES/$1.qcow2" "Run: all-in-one up"
  image_in_glance "$1" || fail "the image $1 is not in Glance" "Look at $LOG/glance-api.log"
}
