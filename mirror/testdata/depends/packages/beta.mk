package=beta
include packages/beta_details.mk
$(package)_version=$(beta_details_version)
$(package)_download_path=http://beta.invalid/releases
$(package)_file_name=$(package)-$(beta_details_suffix)
$(package)_sha256_hash=ac35149cc605b8cd9c8fb75014ec1cc173a8f37d971e67841f4cc787eae67dbf
$(package)_docs_file_name=$(package)-docs-$(beta_details_suffix)
$(package)_extra_sources = $($(package)_docs_file_name)
$(package)_extra_sources += extra.txt-$($(package)_version)

define $(package)_fetch_cmds
$(call fetch_file,$(package),$($(package)_download_path),$($(package)_download_file),$($(package)_file_name),$($(package)_sha256_hash)) && \
$(call fetch_file,$(package),$($(package)_download_path),$($(package)_docs_file_name),$($(package)_docs_file_name),$(beta_details_docs_sha256_hash)) && \
$(call fetch_file,$(package),http://beta.invalid/raw,extra.txt,extra.txt-$($(package)_version),dacc74c098d3c0410be92138dc50739014a82f2c659dd393178442712469491d)
endef
