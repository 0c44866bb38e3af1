"""How lessons are made and handed out: notebooks built from scripts, and a learner's own copy of them."""
