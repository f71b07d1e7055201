// The room for Simulation.
