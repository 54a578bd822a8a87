"""Who does what, when: one attempt, the verdict on its failure, the fleet's slots, the run."""
