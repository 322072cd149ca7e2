# python:*-slim-bookworm: Debian's Python under the names of the official image.
FROM ticketrush-stand-in:debian
# Nothing else uses this Python: what Debian's pip protects is not there.
ENV LANG=C.UTF-8 PIP_BREAK_SYSTEM_PACKAGES=1
RUN ln -s /usr/bin/python3 /usr/local/bin/python
CMD ["python"]
