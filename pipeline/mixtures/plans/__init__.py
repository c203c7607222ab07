"""Plans: which utterances make up which mixture, at which levels; read from published lists, or drawn."""
