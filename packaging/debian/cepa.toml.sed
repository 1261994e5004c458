# Makes the explained config into that of the package: data where the unit lets the node write, and the network
# from the oxend beside it.
s|^data_dir = .*|data_dir = "/var/lib/cepa"|
s|^network_file = .*|#network_file = "network.json"|
s|^#oxend_rpc = .*|oxend_rpc = "ipc:///var/lib/oxen/oxend.sock"|
