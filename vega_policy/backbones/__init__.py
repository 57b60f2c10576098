"""Multimodal LLMs that read camera images, generative tokens and an instruction into action-slot states."""
