"""The words of LIBERO's instructions: the vocabulary of policies that are trained from scratch."""

_WORDS = """
alphabet and at back basket bbq between black book both bottle bottom bowl box butter cabinet caddy
center cheese chocolate close compartment cookie cream drawer dressing from front frying in inside it
juice ketchup left microwave middle milk moka mug next of off on open orange pan pick place plate pot
pots pudding push put rack ramekin red right salad sauce shelf soup stack stove table the them to tomato
top tray turn under up white wine wooden yellow
"""

LIBERO_WORDS = tuple(_WORDS.split())
"""Every word of the 130 instructions of LIBERO's five suites."""
