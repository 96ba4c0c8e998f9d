# bash completion for millrace
_millrace() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} flags
  local verbs="serve append read stat status promote verify doctor version help"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "$verbs" -- "$cur"))
    return
  fi
  case $prev in
    --data) COMPREPLY=($(compgen -d -- "$cur")); return ;;
    --config | --file) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    --format) COMPREPLY=($(compgen -W "raw json" -- "$cur")); return ;;
    --delimiter) COMPREPLY=($(compgen -W "newline len32" -- "$cur")); return ;;
    --kernel) COMPREPLY=($(compgen -W "auto uring posix" -- "$cur")); return ;;
    --from | --until) COMPREPLY=($(compgen -W "earliest latest offset: time: day:" -- "$cur")); compopt -o nospace; return ;;
  esac
  case $verb in
    serve) flags="--data --listen --follow --ack-default --followers-for-quorum --shards --cores --segment-bytes --pool-segments --memory --day-offset --retain-days --retain-bytes --connections-max --buffered --insecure --accept-clock --config --kernel" ;;
    append) flags="--server --stream --type --file --batch-records --batch-bytes --in-flight --linger --retry --delimiter --quiet" ;;
    read) flags="--server --data --stream --from --until --type --count --follow --format --delimiter --buffered --retry" ;;
    stat) flags="--server --data --json --buffered --retry" ;;
    status) flags="--server --json --retry" ;;
    promote) flags="--server --accept-loss" ;;
    verify) flags="--data --against --json --buffered" ;;
    doctor) flags="--data --json" ;;
  esac
  COMPREPLY=($(compgen -W "$flags --help" -- "$cur"))
}
complete -F _millrace millrace
