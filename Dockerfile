FROM rust:1.95-slim-bookworm AS build
# The base image's release fixes the versions.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package pyrrha-server

FROM debian:bookworm-slim
RUN useradd --system --uid 65532 --home-dir /data pyrrha && mkdir /data && chown pyrrha /data
COPY --from=build /src/target/release/pyrrha /usr/local/bin/pyrrha
USER 65532
VOLUME /data
EXPOSE 9009
ENTRYPOINT ["pyrrha"]
CMD ["server", "--storage.path=/data", "--web.listen-address=0.0.0.0:9009"]
