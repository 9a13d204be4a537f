# shellcheck shell=bash
# What the jobs share.

# Returns the exit code of a child, however often a signal interrupts `wait`.
exit_code_of() {
	local code=0
	wait "$1" || code=$?
	while kill -0 "$1" 2> /dev/null; do
		code=0
		wait "$1" || code=$?
	done
	return "$code"
}

# Queues this job again, unless it is being cancelled or $CORD_HOME/stop is there. Slurm itself does so only after a
# preemption or a lost node.
queue_again() {
	local job="${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
	if [ -f "$CORD_HOME/stop" ]; then
		echo "$CORD_HOME/stop is there: this job is not queued again"
	elif [ "$(squeue --noheader --jobs "$job" --format %T)" = RUNNING ]; then
		scontrol requeue "$job"
	fi
}
