"""What can be learned: one file a task, which a yaml of `conf/task/` names; see docs/adding_a_task.md."""
