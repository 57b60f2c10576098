"""Action heads: from the hidden states at the action slots to a chunk of normalised actions.

`config.HeadConfig` names the head, `build.build_head` makes it, `base.ActionHead` is what the policy sees.
This file imports nothing so that a configuration can be read without torch.
"""
