"""The record of a run on storage: its folder, its variables, its JSON files. Standard library, Python 3.9."""

# what other rooms may import
__all__ = [
    "attempts",
    "bad_nodes",
    "checkpoint_folder",
    "cluster_record",
    "env",
    "examination",
    "fault_request",
    "folder",
    "gpu_record",
    "job_chain",
    "job_comment",
    "json_file",
    "lease",
    "machine_facts",
    "manifest",
    "message_codec",
    "placeholders",
    "preflight_report",
    "program_messages",
    "progress",
    "settings",
    "status",
    "train_settings",
    "version",
]
