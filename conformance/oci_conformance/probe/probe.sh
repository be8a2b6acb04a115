#!/bin/busybox sh
# The probe without a C compiler: the same operations as probe.c, as far as a shell can do them, using /proc. Texts are printed as
# hexadecimal digits under NAME.hex, so that nothing needs quoting.
B=/bin/busybox
[ -x $B ] || B=$($B which busybox 2>/dev/null || command -v busybox)

hex() { printf '%s' "$1" | $B od -An -v -tx1 | $B tr -d ' \n'; }
filehex() { $B od -An -v -tx1 "$1" 2>/dev/null | $B tr -d ' \n'; }
field() { $B sed -n "s/^$1:[[:space:]]*//p" /proc/self/status; }  # read by sed: the same except for the pids
nth() { printf '%s\n' "$1" | $B awk -v n="$2" '{print $n}'; }
wide() { printf '%d' "0x$(field "$1")" 2>/dev/null || echo 0; }

errno_of() {  # a message of the C library → its number
    case $1 in
        *"o such file"*) echo 2 ;; *"ermission denied"*) echo 13 ;; *"not permitted"*) echo 1 ;; *"ead-only"*) echo 30 ;;
        *"ile exists"*) echo 17 ;; *"s a directory"*) echo 21 ;; *"ot a directory"*) echo 20 ;; *"nvalid argument"*) echo 22 ;;
        *"o such device or"*) echo 6 ;; *"o such device"*) echo 19 ;; *"evice or resource busy"*) echo 16 ;; *"many levels"*) echo 40 ;;
        *) echo 5 ;;
    esac
}

lines() {  # NUL-separated file → list of hexadecimal texts
    filehex "$1" | $B sed 's/../& /g' | $B tr ' ' '\n' | $B awk '
        /^00$/ { printf "%s\"%s\"", sep, word; word = ""; sep = ", "; next } { word = word $0 }'
}

links() {
    sep=
    for link in "$1"/*; do
        target=$($B readlink "$link") || continue
        printf '%s"%s": "%s"' "$sep" "${link##*/}" "$target"
        sep=", "
    done
}

limits() {
    $B awk 'function n(v) { return v == "unlimited" ? "18446744073709551615" : v }
        BEGIN { split("CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME", name, " ") }
        NR > 1 { line = substr($0, 27); split(line, v, " "); printf "%s\"%s\": {\"soft\": %s, \"hard\": %s}", sep, name[NR - 1], n(v[1]), n(v[2]); sep = ", " }
    ' /proc/$$/limits
}

op_self() {
    uids=$(field Uid) gids=$(field Gid)
    printf '"uid": %s, "euid": %s, "suid": %s, ' "$(nth "$uids" 1)" "$(nth "$uids" 2)" "$(nth "$uids" 3)"
    printf '"gid": %s, "egid": %s, "sgid": %s, ' "$(nth "$gids" 1)" "$(nth "$gids" 2)" "$(nth "$gids" 3)"
    printf '"groups": [%s], ' "$(field Groups | $B sed 's/ *$//; s/ /, /g')"
    printf '"pid": %d, "ppid": %d, "umask": %d, ' $$ "$(field PPid)" "0$(umask)"
    printf '"capabilities": {"effective": %s, "permitted": %s, "inheritable": %s, ' "$(wide CapEff)" "$(wide CapPrm)" "$(wide CapInh)"
    printf '"bounding": %s, "ambient": %s}, ' "$(wide CapBnd)" "$(wide CapAmb)"
    printf '"no_new_privs": %d, "rlimits": {%s}, ' "$(field NoNewPrivs)" "$(limits)"
    printf '"hostname.hex": "%s", "domainname.hex": "%s", ' "$(hex "$($B hostname)")" "$(hex "$($B cat /proc/sys/kernel/domainname)")"
    printf '"machine": "%s", "cwd.hex": "%s", ' "$($B uname -m)" "$(hex "$($B readlink /proc/$$/cwd)")"
    printf '"env.hex": [%s], ' "$(lines /proc/$$/environ)"
    printf '"fds": {%s}, "ns": {%s}, ' "$(links /proc/$$/fd | $B sed 's/, "[0-9]*": "\/bin\/probe"//; s/, "255": "[^"]*"//; s/, "10": "[^"]*"//')" "$(links /proc/self/ns)"
    printf '"oom_score_adj": %d, "cpus.list": "%s"' "$($B cat /proc/$$/oom_score_adj)" "$(field Cpus_allowed_list)"
}

op_stat() {
    printf '"path.hex": "%s", ' "$(hex "$2")"
    flag=
    [ "$1" = follow ] && flag=-L
    if said=$($B stat $flag -c '%f %u %g %s %i %t %T' "$2" 2>&1); then
        set -- $said "$2"
        case $(( (0x$1 >> 12) & 15 )) in
            1) kind=fifo ;; 2) kind=char ;; 4) kind=dir ;; 6) kind=block ;; 8) kind=file ;; 10) kind=link ;; 12) kind=socket ;; *) kind=? ;;
        esac
        printf '"errno": 0, "type": "%s", "mode": %d, "uid": %s, "gid": %s, "size": %s, ' "$kind" $((0x$1 & 07777)) "$2" "$3" "$4"
        printf '"ino": %s, "major": %d, "minor": %d' "$5" "0x$6" "0x$7"
        [ "$kind" = link ] && printf ', "target.hex": "%s"' "$(hex "$($B readlink "$8")")"
    else
        printf '"errno": %d' "$(errno_of "$said")"
    fi
}

op_read() {
    printf '"path.hex": "%s", ' "$(hex "$2")"
    if said=$($B cat "$2" 2>&1 >/dev/null); then
        printf '"errno": 0, "text.hex": "%s"' "$(filehex "$2")"
    else
        printf '"errno": %d' "$(errno_of "$said")"
    fi
}

tried() { if said=$("$@" 2>&1); then printf '"errno": 0'; else printf '"errno": %d' "$(errno_of "$said")"; fi; }
opened() { case $1 in r) : <"$2" ;; w) if [ -e "$2" ]; then : >>"$2"; else : <"$2"; fi ;; rw) : <>"$2" ;; *) : >>"$2" ;; esac; }

op_open() { printf '"path.hex": "%s", "how": "%s", ' "$(hex "$2")" "${3:-r}"; tried opened "${3:-r}" "$2"; }
put() { printf '%s' "$2" >"$1"; }
op_write() { printf '"path.hex": "%s", ' "$(hex "$2")"; tried put "$2" "$3"; }
op_mkdir() { printf '"path.hex": "%s", ' "$(hex "$2")"; tried $B mkdir "$2"; }
op_mknod() { printf '"path.hex": "%s", ' "$(hex "$2")"; shift; tried $B mknod "$@"; }

op_list() {
    printf '"path.hex": "%s", ' "$(hex "$2")"
    if said=$($B ls -A "$2" 2>&1); then
        sep= names=
        for name in $said; do names="$names$sep\"$(hex "$name")\""; sep=", "; done
        printf '"errno": 0, "names.hex": [%s]' "$names"
    else
        printf '"errno": %d' "$(errno_of "$said")"
    fi
}

op_mount() {
    printf '"path.hex": "%s", ' "$(hex "$3")"
    options=${6:-rw}
    [ $(($5 & 4096)) = 0 ] || options="$options,bind"
    tried $B mount -t "$4" -o "$options" "$2" "$3"
}

op_run() {  # the lines of the program come first
    path=$2
    shift
    said=$("$@" 2>&1)
    code=$?
    case $said in {*) printf '%s\n' "$said" ;; esac
    error=0
    [ $code = 126 ] && error=13
    [ $code = 127 ] && error=2
    printf '{"op": "run", "path.hex": "%s", "exit": %d, "signal": 0, "errno": %d}\n' "$(hex "$path")" $code $error
}

op_wait() {
    for number in 1 2 3 10 12 14 15 21 22 28; do
        trap "printf '{\"op\": \"signal\", \"signal\": $number}\n'; [ $number != 15 ] || exit 0" $number
    done
    printf '"ready": %d}\n' $$
    while :; do $B sleep 1000 & wait; done
}

op_to() {
    data=$($B cat)
    input=$(hex "$data")
    hinted=$(printf '%s' "$data" | $B tr -d ' \n' | $B sed -n 's/.*"pid":\([0-9]*\).*/\1/p')
    exec >>"$2"
    line="{\"op\": \"to\", "
    printf '%s"label.hex": "%s", "stdin.hex": "%s"' "$line" "$(hex "$3")" "$input"
}

one() {
    case $1 in
        to) op_to "$@"; printf '}\n'; return ;;
        exit) printf '{"op": "exit"}\n'; exit "$2" ;;
        sleep) $B sleep "$($B awk -v ms="$2" 'BEGIN { print ms / 1000 }')"; printf '{"op": "sleep"}\n'; return ;;
        die) printf '{"op": "die"}\n'; kill -"$2" $$; exit 95 ;;
        wait) printf '{"op": "wait", '; op_wait; return ;;
        run) op_run "$@"; return ;;
    esac
    case $1 in
        self) body=$(op_self) ;; say) body="\"text.hex\": \"$(hex "$2")\"" ;;
        stat|follow) body=$(op_stat "$@") ;; read) body=$(op_read "$@") ;; open) body=$(op_open "$@") ;;
        write) body=$(op_write "$@") ;; mkdir) body=$(op_mkdir "$@") ;; mknod) body=$(op_mknod "$@") ;;
        peek) body=$(op_read read "/proc/$hinted/$2") ;;
        list) body=$(op_list "$@") ;; mount) body=$(op_mount "$@") ;; *) body='"known": 0' ;;
    esac
    printf '{"op": "%s", %s}\n' "$1" "$body"
}

more() {  # the operations one by one: everything up to a lone +
    while [ $# -gt 0 ]; do
        n=0
        for word; do [ "$word" = + ] && break; n=$((n + 1)); done
        eval "one $(k=1; while [ $k -le $n ]; do printf '"${%d}" ' $k; k=$((k + 1)); done)"
        [ $# -gt $n ] && n=$((n + 1))
        shift $n
    done
}
more "$@"
