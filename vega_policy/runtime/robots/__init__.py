"""Arms behind one small interface; `base` says what a driver owes the control loop."""
