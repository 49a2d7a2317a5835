#include "chips/cpu/lanes16.h"
//
#include "chips/cpu/kernels/integer.cc"
#include "chips/cpu/kernels/integer_bytes.cc"
