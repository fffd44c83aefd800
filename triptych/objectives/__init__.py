"""Each family's training game, as one or two players: `player` (what a player is), then `vae`, `flow` and `gan`."""
