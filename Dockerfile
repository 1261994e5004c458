# A Cepa node in a container:
#   docker build -t cepa .
#   docker run -d --name cepa --security-opt seccomp=config/docker-seccomp.json --ulimit core=0 \
#     -v cepa-data:/var/lib/cepa -v ./cepa.toml:/etc/cepa/cepa.toml:ro \
#     -p 22021:22021 -p 22020:22020 -p 22020:22020/udp -p 22022:22022/udp cepa
# The profile is needed because Docker's own forbids io_uring, which the node runs on: packaging/README.md.

FROM rust:1.95.0-bookworm AS build
# C and C++ for aws-lc, ring, mimalloc and SQLite.
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake clang \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p cepa-node \
    && cp target/release/cepa /usr/local/bin/cepa

FROM debian:bookworm-slim
# Root certificates, for onions to https servers; curl for the health check.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 22021 --user-group --home-dir /var/lib/cepa --shell /usr/sbin/nologin cepa \
    && install -d -o cepa -g cepa -m 0700 /var/lib/cepa
COPY --from=build /usr/local/bin/cepa /usr/local/bin/cepa
USER cepa
VOLUME /var/lib/cepa
# HTTPS, OMQ, QUIC, the packet lane.
EXPOSE 22021/tcp 22020/tcp 22020/udp 22022/udp
STOPSIGNAL SIGTERM
# A node that has no place in the network yet answers this too.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m --retries=3 \
    CMD ["curl", "-ksf", "-o", "/dev/null", "https://127.0.0.1:22021/get_stats/v1"]
ENTRYPOINT ["/usr/local/bin/cepa"]
CMD ["run", "--config", "/etc/cepa/cepa.toml"]
