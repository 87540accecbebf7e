"""The end of a rollout: what is secret or personal is erased (``purge``), then everything is taken away."""
