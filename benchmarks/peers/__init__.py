"""Other systems. Each module is a program: it reads a task's folder and writes answers, and imports nothing of ours.

    FOLDER/cases.json     [{op, n, d, k, rate, decay, seconds, repetitions}, ...]: case i is the i-th
    FOLDER/inputs.npz     arrays "i/NAME"
    FOLDER/SYSTEM.json    {versions, notes, rows: [{case, variant, ms: [...], rounds, bytes_sent, bytes_received,
                          offline_bytes, reason}]}; `reason` says why a case is not there
    FOLDER/SYSTEM.npz     the opened result of each row, "ROW"

The one exception is stock CrypTen, which current PyTorch imports only with our stub in place (mpc/engine/compat.py).
"""
