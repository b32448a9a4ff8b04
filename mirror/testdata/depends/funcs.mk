# \$(1): package, \$(2): folder's address, \$(3): name there, \$(4): name here, \$(5): hash
define fetch_from
    ( mkdir -p $(BASEDIR)/work && echo Fetching $(3) from $(2) && \
    $(build_DOWNLOAD) "$(BASEDIR)/work/$(4)" "$(2)/$(3)" && \
    echo "$(5)  $(BASEDIR)/work/$(4)" | $(build_SHA256SUM) -c - && mv $(BASEDIR)/work/$(4) $(SOURCES_PATH)/$(4) )
endef

define fetch_file
    ( $(call fetch_from,$(1),$(2),$(3),$(4),$(5)) || $(call fetch_from,$(1),$(FALLBACK_DOWNLOAD_PATH),$(4),$(4),$(5)) )
endef

define properties
$(1)_download_file ?= $($(1)_file_name)
$(if $($(1)_local_dir),$(eval $(1)_sha256_hash := $(shell tar c $($(1)_local_dir) | $(build_SHA256SUM))))
$(1)_all_sources = $($(1)_file_name) $($(1)_extra_sources)
# The stamp says that all of them are here.
$(1)_fetched = $(SOURCES_PATH)/download-stamps/.stamp_fetched-$(1)-$($(1)_file_name).hash
$(1)_fetch_cmds ?= $(call fetch_file,$(1),$$($(1)_download_path),$$($(1)_download_file),$($(1)_file_name),$($(1)_sha256_hash))
$(if $($(1)_local_dir),,all_sources += $$($(1)_fetched))
endef

define rules
$($(1)_fetched):
	mkdir -p $$(@D)
	rm -f $$@
	cd $$(@D); $($(1)_fetch_cmds)
	cd $(SOURCES_PATH); $(foreach source,$($(1)_all_sources),$(build_SHA256SUM) $(source) >> $$(@);)
	touch $$@
endef

$(foreach native_package,$(native_packages),$(eval include packages/$(native_package).mk))
$(foreach package,$(packages),$(eval include packages/$(package).mk))
$(foreach package,$(all_packages),$(eval $(call properties,$(package))))
$(foreach package,$(all_packages),$(eval $(call rules,$(package))))
