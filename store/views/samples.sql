-- one row: a sample of what a CPU ran
-- evidence: stream=profile cpus=own interval=ts..ts
-- needs: cpu_sample
SELECT
    seq, -- int: order of the sample
    ts, -- int clock: when
    cpu, -- int: the CPU
    tid, -- int: thread that ran
    pid, -- int: its process
    comm, -- text: its name
    kstack, -- int: stack_id of its stack in the kernel
    ustack, -- int: stack_id of its stack in user space
    TRUE AS certain -- bool: no lost event can change the row
FROM cpu_sample
