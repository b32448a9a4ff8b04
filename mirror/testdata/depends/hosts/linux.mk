linux_CC = cc
