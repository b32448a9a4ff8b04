darwin_AR := $(shell command -v llvm-ar)
ifneq ($(darwin_AR),)
darwin_has_ar = yes
endif
