packages := alpha folder
linux_packages := beta
gamma_darwin_packages := gamma
ifneq ($(host),$(build))
native_packages := native_tool
endif
