/*
 * exit - what the exit statuses mean. The unit file restarts on 1 only.
 */
#ifndef CSD_EXIT_H
#define CSD_EXIT_H

enum csd_exit {
    CSD_EXIT_OK = 0,
    CSD_EXIT_FAILURE = 1,      /* at run time: an address in use, a lost privilege, no memory */
    CSD_EXIT_USAGE = 2,        /* the command line */
    CSD_EXIT_UNAVAILABLE = 69, /* this system has no usable io_uring; cosockctl: no daemon runs */
    CSD_EXIT_CONFIG = 78,      /* the configuration or a script */
};

#endif
