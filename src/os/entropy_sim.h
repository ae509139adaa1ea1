#pragma once
// Simulated entropy: what entropy_new() draws follows from the seed set here and the number of
// generators made since.

#include "os/entropy.h"

void entropy_sim_seed(uint64_t seed);
