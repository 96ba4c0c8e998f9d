// Every message after the handshake: what clients say and what servers answer.
#pragma once

#include "protocol/answers.hpp"
#include "protocol/requests.hpp"
