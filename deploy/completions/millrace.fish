# fish completion for millrace
set -l verbs serve append read stat status promote verify doctor version help
complete -c millrace -f
complete -c millrace -n "not __fish_seen_subcommand_from $verbs" -a "$verbs"
complete -c millrace -n "__fish_seen_subcommand_from serve read stat verify doctor" -l data -r -a "(__fish_complete_directories)" -d "data directory"
complete -c millrace -n "__fish_seen_subcommand_from append read stat status promote" -l server -x -d "HOST:PORT"
complete -c millrace -n "__fish_seen_subcommand_from append read" -l stream -x -d "stream name"
complete -c millrace -n "__fish_seen_subcommand_from append read" -l type -x -d "record type"
complete -c millrace -n "__fish_seen_subcommand_from append read" -l delimiter -x -a "newline len32"
complete -c millrace -n "__fish_seen_subcommand_from append" -l file -r -F
for flag in batch-records batch-bytes in-flight linger
  complete -c millrace -n "__fish_seen_subcommand_from append" -l $flag -x
end
complete -c millrace -n "__fish_seen_subcommand_from read" -l from -x -a "earliest latest offset: time: day:"
complete -c millrace -n "__fish_seen_subcommand_from read" -l until -x -a "latest offset: time: day:"
complete -c millrace -n "__fish_seen_subcommand_from read" -l count -x
complete -c millrace -n "__fish_seen_subcommand_from read" -l follow
complete -c millrace -n "__fish_seen_subcommand_from read" -l format -x -a "raw json"
complete -c millrace -n "__fish_seen_subcommand_from stat status verify doctor" -l json
for flag in listen follow ack-default followers-for-quorum shards cores segment-bytes pool-segments memory day-offset retain-days retain-bytes
  complete -c millrace -n "__fish_seen_subcommand_from serve" -l $flag -x
end
complete -c millrace -n "__fish_seen_subcommand_from serve" -l config -r -F
complete -c millrace -n "__fish_seen_subcommand_from serve" -l kernel -x -a "auto uring posix"
complete -c millrace -n "__fish_seen_subcommand_from serve read stat verify" -l buffered
complete -c millrace -n "__fish_seen_subcommand_from append read stat status" -l retry -x
complete -c millrace -n "__fish_seen_subcommand_from verify" -l against -x -d "HOST:PORT"
complete -c millrace -n "__fish_seen_subcommand_from serve" -l insecure
complete -c millrace -n "__fish_seen_subcommand_from serve" -l connections-max -x
complete -c millrace -n "__fish_seen_subcommand_from serve" -l accept-clock
complete -c millrace -n "__fish_seen_subcommand_from append" -l quiet
complete -c millrace -n "__fish_seen_subcommand_from promote" -l accept-loss
