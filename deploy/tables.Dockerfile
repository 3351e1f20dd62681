# The table job, and `sluice sql`: the gateway's code with Java. All jars are made while the image is built: its user can't write them.
FROM python:3.11-slim-bookworm
RUN apt-get update \
 && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/sluice
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY pipeline pipeline
COPY jobs jobs
ENV PYTHONUNBUFFERED=1 SLUICE_JARS=/opt/sluice/jars
RUN pip install --no-cache-dir -c constraints.txt . \
 && python -m jobs.submit > /dev/null \
 && useradd --system --uid 10001 --create-home sluice \
 && mkdir /data && chown sluice /data
USER sluice
WORKDIR /home/sluice
VOLUME /data
CMD ["sluice", "tables", "--data", "/data"]
