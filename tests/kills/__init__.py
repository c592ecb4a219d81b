"""Real processes of the whole chain, ended by SIGKILL at random moments: device, agent, server and database."""
