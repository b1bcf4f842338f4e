# Sourced by the batch files: runs a stage as a job step, hands a request to stop on to it, and puts the job back into
# the queue where the stage was interrupted. Nothing is installed here.

root="${HOUNSFIELD_ROOT:-$SLURM_SUBMIT_DIR}"
# SLURM_JOB_ID of one of an array's tasks is the number of the whole array: a task is named by both numbers.
job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"
job="${job:-$SLURM_JOB_ID}"
step="" # process id of srun
asked="" # the signals by which the job was asked to stop

say() { printf '[%(%T)T job %s] %s\n' -1 "$job" "$*" >&2; }

# Prints the interpreter: PY as submit.sh found it, PYTHON, or the project's own environment.
interpreter() {
    local python="${PY:-${PYTHON:-${VENV:-$root/.venv}/bin/python}}"
    if ! command -v "$python"; then
        say "$python: no such program on $(hostname). Make the environment where all nodes see it, once, before" \
            "submitting: source $root/scripts/env.sh; or name one: PYTHON=/path/to/python."
        return 2
    fi
}

# USR1 comes with notice, before the time limit and before a preemption; TERM when the job is to go at once.
on_request() {
    asked="$asked $1"
    say "asked to stop ($1)"
    # srun hands it on to every process of the step; training saves its state and exits with 75.
    [ -z "$step" ] || kill -USR1 "$step" 2>/dev/null || true
}
trap 'on_request USR1' USR1
trap 'on_request TERM' TERM

# run_stage STAGE [CONFIG] [key=value ...]: run it, and end the job as the stage ended.
run_stage() {
    local stage="$1" python status=0 waiting=1 asked_before
    shift
    python="$(interpreter)" || exit 2
    say "$stage on $SLURM_JOB_NODELIST, attempt $((${SLURM_RESTART_COUNT:-0} + 1)), $(date +%F)"
    [ -z "$asked" ] || end_job "$stage" 75
    # In the background, as bash acts on a signal only once a foreground command has ended. srun takes neither the cores
    # of a process nor, if sites say otherwise, the environment from sbatch. A process that ends does not take the
    # others with it at once, as they may still be saving; what is left of them after 45 s is ended.
    HOUNSFIELD_REQUEUES=1 srun --export=ALL --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 --wait=45 \
        "$python" "$root/scripts/$stage.py" "$@" </dev/null &
    step=$!
    [ -z "$asked" ] || kill -USR1 "$step" 2>/dev/null || true # asked while it was being started
    while [ -n "$waiting" ]; do # `wait` also ends when a signal arrives; then it is asked again
        asked_before="$asked" status=0
        wait "$step" || status=$?
        [ "$asked" != "$asked_before" ] || waiting=""
    done
    end_job "$stage" "$status"
}

# end_job STAGE STATUS: put an interrupted job back into the queue, say why another one failed, and exit.
end_job() {
    local stage="$1" status="$2"
    # A request that comes before Python can hear it ends it by the signal itself: nothing had been begun.
    if [ -n "$asked" ] && { [ "$status" -eq 138 ] || [ "$status" -eq 143 ]; }; then status=75; fi
    case "$status" in
        0) if is_ours; then say "$stage is done"; else say "$stage was ended by Slurm ($seen)"; fi ;;
        75) requeue "$stage" ;;
        76) say "$stage: another process has taken the run over, see above; not requeued, or the two would end each" \
            "other again and again." ;;
        1) say "$stage: what is named above failed, the rest is made. $(cure)" ;;
        2) say "$stage: refused for the reason above. $(cure)" ;;
        *) say "$stage ended with $status; see above, and that the memory was enough. $(cure)" ;;
    esac
    exit "$status"
}

cure() {
    echo "Jobs that wait for this one are cancelled; mend it and submit again: only what is missing is made."
}

# Whether the job runs, and by this attempt: Slurm starts a job again where it has lost sight of a node, on which the
# first attempt may live on; srun then ends with 0 there.
is_ours() {
    seen="$(scontrol show job --oneliner "$job" | grep -oE '(JobState|Restarts)=[^ ]*' | sort | xargs)" || true
    [ "$seen" = "JobState=RUNNING Restarts=${SLURM_RESTART_COUNT:-0}" ]
}

# requeue STAGE
requeue() {
    local saved="$1 was interrupted, its state is saved" restarts="${SLURM_RESTART_COUNT:-0}"
    if ! is_ours; then
        say "$saved; not requeued from here, as the job was cancelled, timed out or started again ($seen)"
    elif [ "$restarts" -ge "${MAX_RESTARTS:-100}" ]; then
        say "$saved; not requeued, as that was done $restarts times (MAX_RESTARTS). If it went forward each time," \
            "submit again and it goes on."
    elif scontrol requeue "$job"; then
        say "$saved; back in the queue"
    else
        say "$saved; Slurm refuses to requeue it: submit again and it goes on."
    fi
}
