/*
 * about - what this binary is, what it was built from, and which settings it knows.
 */
#ifndef CSD_ABOUT_H
#define CSD_ABOUT_H

#include <stdio.h>

void csd_about_version(FILE *out);
void csd_about_build(FILE *out);
void csd_about_settings(FILE *out);

#endif
