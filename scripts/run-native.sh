#!/usr/bin/env bash
# Runs native test programs under a tool: run-native.sh debug | asan | tsan | memcheck | drd PROGRAM…
# Called by native/Makefile. One line a program goes to standard output and to OUT/TOOL.results; the whole output of a
# program that fails goes to standard output, every output to OUT/log/TOOL-PROGRAM.log. OUT is build-native as a rule.
set -u
cd "$(dirname "$0")/.."
tool=$1
shift
out=${OUT:-build-native}
supp=native/test
results=$out/$tool.results
mkdir -p "$out/log"
: > "$results"

# Sanitizers of this age lose their way in a wide randomised address space.
fixed=()
if setarch -R true 2> /dev/null; then fixed=(setarch -R); fi
# $2 and a suppression file's path, if there is such a file.
with() { if [ -f "$supp/$1" ]; then printf '%s' "$2$PWD/$supp/$1"; fi; }
wrap=()
build=$tool
jobs=1
case $tool in
  asan)
    wrap=("${fixed[@]}")
    export VALK_TEST_TIMEOUT=${VALK_TEST_TIMEOUT:-300}
    export ASAN_OPTIONS="detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1"
    export LSAN_OPTIONS="print_suppressions=0$(with lsan.supp :suppressions=)"
    export UBSAN_OPTIONS="print_stacktrace=1"
    ;;
  tsan)
    wrap=("${fixed[@]}")
    export VALK_TEST_TIMEOUT=${VALK_TEST_TIMEOUT:-600}
    export FAULT_STEP=${FAULT_STEP:-31}
    export TSAN_OPTIONS="second_deadlock_stack=1$(with tsan.supp :suppressions=)"
    ;;
  memcheck)
    build=debug
    # valgrind runs a program's threads on one core, and lets one that computes keep it for many seconds unless it is to
    # be fair.
    jobs=$(nproc)
    export VALK_TEST_TIMEOUT=${VALK_TEST_TIMEOUT:-600}
    export FAULT_STEP=${FAULT_STEP:-101}
    wrap=(valgrind -q --fair-sched=try --error-exitcode=9 --leak-check=full --show-leak-kinds=all
      --errors-for-leak-kinds=definite,indirect,possible --track-fds=yes --num-callers=30)
    if [ -f "$supp/valgrind.supp" ]; then wrap+=("--suppressions=$supp/valgrind.supp"); fi
    ;;
  drd)
    build=debug
    jobs=$(nproc)
    export VALK_TEST_TIMEOUT=${VALK_TEST_TIMEOUT:-600}
    # For programs over locks alone: DRD knows no atomics of C11, and takes what they order for races. Those programs
    # are ThreadSanitizer's.
    wrap=(valgrind -q --tool=drd --fair-sched=try --error-exitcode=9 --check-stack-var=no --num-callers=30)
    ;;
esac

# valgrind 3.19 lists the descriptors left open without counting them as errors. Those that it inherited are not ours.
leaked_descriptors() {
  awk '/^==[0-9]+== Open / { open = $0; next }
       open != "" { if ($0 !~ /<inherited from parent>/) { print open; print $0; found = 1 } open = "" }
       END { exit !found }' "$1"
}

# Leaves its line in LOG.result, and its exit status in LOG.status.
run_program() {
  local program=$1 log=$out/log/$tool-$1.log args=() code counts passed=0 failed=0 left
  read -r -a args <<< "${TESTS:-}"
  timeout --foreground --kill-after=10 "${VALK_PROGRAM_TIMEOUT:-1200}" \
    "${wrap[@]}" "$out/$build/$program" "${args[@]}" > "$log" 2>&1 < /dev/null
  code=$?
  counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
  if [ -n "$counts" ]; then read -r passed _ failed _ <<< "${counts/,/}"; fi
  if [ "$tool" = memcheck ] && left=$(leaked_descriptors "$log"); then
    printf '%s: descriptors left open:\n%s\n' "$program" "$left" >> "$log"
    code=9
  fi
  if [ $code -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
  printf '%s: %d passed, %d failed\n' "$program" "$passed" "$failed" > "$log.result"
  printf '%s\n' "$code" > "$log.status"
}

# The longest are among the last of the alphabet, and would end alone.
for ((i = $#; i > 0; i--)); do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
  run_program "${!i}" &
done
wait

status=0
for program in "$@"; do
  log=$out/log/$tool-$program.log
  tee -a "$results" < "$log.result"
  code=$(cat "$log.status")
  rm -f "$log.result" "$log.status"
  if [ "$code" -ne 0 ]; then
    status=1
    printf -- '--- %s under %s: exit status %d\n' "$program" "$tool" "$code"
    cat "$log"
  fi
done
exit $status
