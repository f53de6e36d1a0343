"""What looks on while a run goes: logs, progress, memory, signals. One noun a file."""
