"""What this machine needs to be told: resolver back ends and the facts they are chosen by."""
