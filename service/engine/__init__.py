"""When each stage is computed: tasks, exit policy, scheduler, runner and the worker that joins them."""
