"""From a `HeadConfig` to the head it names."""

from vega_policy.heads.base import ActionHead
from vega_policy.heads.config import HeadConfig


def build_head(config: HeadConfig, hidden_dim: int, chunk_length: int, action_dim: int) -> ActionHead:
    """Builds the head that `config` names, with fresh weights.

    Args:
        config: which head and how large; already checked by its constructor.
        hidden_dim: width of the backbone's hidden states.
        chunk_length: control steps per chunk.
        action_dim: numbers per action.
    """
    if config.name == "l1":
        from vega_policy.heads.l1 import L1Head

        return L1Head(config, hidden_dim, chunk_length, action_dim)
    from vega_policy.heads.flow import FlowHead

    return FlowHead(config, hidden_dim, chunk_length, action_dim)
