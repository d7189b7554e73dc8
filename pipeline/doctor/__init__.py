"""Whether an installation can do what a configuration asks for, part by part.

finding          one line of the report: what was looked at, how it is, the remedy
machine          this machine: packages, memory, open files, the arithmetic asked for
video            the decoders that the config names, in the child process too; codecs
places           tokenizer, source and dataset; whether the store tells two writers apart
ray_resources    the cluster: does it answer, has it room
examination      all of them, in order
"""

from pipeline.doctor.examination import DoctorConfig, Examination, examine

__all__ = ["DoctorConfig", "Examination", "examine"]
