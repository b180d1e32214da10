"""The engine: tasks, exit policy, scheduler, runner, and the worker that connects them."""
