# Settings of this cluster and of a run, sourced by submit.sh: edit them here, or set them in the environment, which
# counts first. Slurm's own variables (SBATCH_QOS, SBATCH_CONSTRAINT, ...) count as well.

# Where jobs go. Empty: the cluster's default.
: "${ACCOUNT:=}"
: "${PARTITION:=}"                  # of prepare and evaluate, which use no GPU
: "${GPU_PARTITION:=$PARTITION}"    # of train and infer

# Training. GPUs and memory are counted for a node, cores for a process, of which a node has one for each of its GPUs.
: "${TRAIN_NODES:=1}"
: "${TRAIN_GPUS:=1}"                # 0: train on the cores
: "${TRAIN_CPUS:=8}"
: "${TRAIN_MEMORY:=32G}"
: "${TRAIN_TIME:=12:00:00}"         # of one attempt: at its end training goes on in the next one

# The other stages. Cases are shared out over as many tasks as there are shards; cores and memory are of each task, and
# those of infer also of the cross-validation.
: "${PREPARE_SHARDS:=4}" "${PREPARE_CPUS:=4}" "${PREPARE_MEMORY:=16G}" "${PREPARE_TIME:=4:00:00}"
: "${INFER_SHARDS:=4}" "${INFER_CPUS:=4}" "${INFER_MEMORY:=16G}" "${INFER_TIME:=4:00:00}"
: "${INFER_GPUS:=$((TRAIN_GPUS > 0))}"
: "${EVALUATE_CPUS:=4}" "${EVALUATE_MEMORY:=16G}" "${EVALUATE_TIME:=1:00:00}"

# Seconds between the request to stop and the kill: 10, and what the longest single operation of training takes. Empty:
# 120, or what runs of this work folder have measured where that is more.
: "${NOTICE_S:=}"
# How often a job may be interrupted and go on before a person should look at it.
: "${MAX_RESTARTS:=100}"
