"""Sends its agent what slurm_tf.train would (run/program_messages.py), and counts steps.

speaks.py TOTAL PAUSE EVERY [WRITER]. If TOTAL is 0, it does not end by itself before something was saved, be it step 0;
an attempt after that takes 20 steps more. WRITER: the task that writes. It runs where slurm_tf is not installed.
"""

import json
import os
import select
import signal
import socket
import sys

total, pause, every = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
attempt, task = os.environ["SLURM_TF_ATTEMPT"], os.environ["SLURM_TF_TASK"]
path = os.path.join(os.environ["SLURM_TF_CHECKPOINT_FOLDER"], "step")
writes = task == (sys.argv[4] if sys.argv[4:] else "worker:0")
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda *_: None)
control = socket.socket(fileno=int(os.environ["SLURM_TF_CONTROL_FD"]))
step, saved, rest = 0, -1, b""
if os.path.exists(path):
    with open(path) as file:
        step = saved = int(file.read())
if not total:
    total = step + 20 if saved >= 0 else sys.maxsize


def send(kind: str, **values: object) -> None:
    control.sendall(json.dumps({"type": kind, **values}).encode() + b"\n")


def commit(saved: int) -> int:
    if writes and step != saved:
        with open(f"{path}_temp", "w") as file:
            file.write(str(step))
        os.rename(f"{path}_temp", path)
        send("CheckpointCommitted", step=step)
    return step


print(f"begins at {step} in {attempt}", flush=True)
send("Listening", is_writer=writes)
reason, trains = "", False
while step < total or reason:
    lines = []
    if select.select([control], [], [], pause)[0]:
        *lines, rest = (rest + control.recv(4096)).split(b"\n")
    for line in lines:
        message = json.loads(line)
        if message["type"] == "ExitRequest":
            print(f"leaves with {message['code']} at {step}", flush=True)
            sys.exit(message["code"])
        if message["type"] == "SaveRequest" and not reason:
            reason = message["reason"]
            print(f"interrupted at {step}: {reason}", flush=True)
            saved = commit(saved)
            if writes:
                send("Saved", step=step, error=None)
    if not reason:
        step += 1
        if not trains:
            trains = True
            send("PhaseEntered", phase="train")
        if step == 3:
            print("trains", flush=True)
        if step % every == 0:
            saved = commit(saved)
commit(saved)
print(f"ends at {step}", flush=True)
