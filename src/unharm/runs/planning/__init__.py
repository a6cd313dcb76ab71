"""What a study would take: sizes, services, hardware, power, rehearsals."""
