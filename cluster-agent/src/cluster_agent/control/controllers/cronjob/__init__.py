"""CronJob controller: makes a Job whenever its schedule is due."""
