"""Writes the small files of this folder with VTK's and NumPy's own writers.

    pip install vtk numpy && python make.py

The tests compare what the readers give with the points and cells below.
"""

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk

POINTS = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 0.1], [2, 0, 0.25], [2, 1, -0.3]]


def polydata(polys=(), lines=(), strips=(), verts=(), precision=vtk.VTK_FLOAT, data=True):
    points = vtk.vtkPoints()
    points.SetDataType(precision)
    for p in POINTS:
        points.InsertNextPoint(p)
    mesh = vtk.vtkPolyData()
    mesh.SetPoints(points)
    for cells, put in [(polys, mesh.SetPolys), (lines, mesh.SetLines), (strips, mesh.SetStrips), (verts, mesh.SetVerts)]:
        if cells:
            array = vtk.vtkCellArray()
            for cell in cells:
                array.InsertNextCell(len(cell), cell)
            put(array)
    if data:
        values = numpy_to_vtk(np.arange(len(POINTS), dtype=np.float32))
        values.SetName("a name")
        values.SetComponentName(0, "component")
        mesh.GetPointData().SetScalars(values)
        time = numpy_to_vtk(np.array([0.5]))
        time.SetName("TIME")
        mesh.GetFieldData().AddArray(time)
        text = vtk.vtkStringArray()
        text.SetName("text")
        text.InsertNextValue("x" * 70)
        text.InsertNextValue("two words")
        mesh.GetFieldData().AddArray(text)
        norm = vtk.vtkDoubleArray()
        norm.SetName("with metadata")
        norm.InsertNextValue(1.0)
        norm.GetInformation().Set(vtk.vtkDataArray.UNITS_LABEL(), "mm")
        mesh.GetFieldData().AddArray(norm)
    # The range kept in the points' information makes VTK write a METADATA block.
    mesh.GetPoints().GetData().GetInformation().Set(vtk.vtkDataArray.UNITS_LABEL(), "mm")
    return mesh


def legacy(name, mesh, version, binary):
    writer = vtk.vtkPolyDataWriter()
    writer.SetInputData(mesh)
    writer.SetFileName(name)
    writer.SetFileVersion(version)
    writer.SetFileTypeToBinary() if binary else writer.SetFileTypeToASCII()
    writer.Write()


surface = dict(polys=[[0, 1, 4], [1, 2, 4], [0, 4, 2, 3]], strips=[[1, 5, 2, 6]], lines=[[0, 5]], verts=[[3]])
curve = dict(lines=[[0, 1, 2, 3], [5, 6]])
for version in (42, 51):
    for binary in (False, True):
        kind = f"{version}_{'binary' if binary else 'ascii'}"
        legacy(f"surface_{kind}.vtk", polydata(**surface), version, binary)
        legacy(f"curve_{kind}.vtk", polydata(**curve, precision=vtk.VTK_DOUBLE), version, binary)

triangles = polydata(polys=[[0, 1, 4], [1, 2, 4], [2, 3, 4]], data=False)
for name, setup in [
    ("surface_ascii.ply", lambda w: w.SetFileTypeToASCII()),
    ("surface_little.ply", lambda w: w.SetDataByteOrderToLittleEndian()),
    ("surface_big.ply", lambda w: w.SetDataByteOrderToBigEndian()),
]:
    writer = vtk.vtkPLYWriter()
    writer.SetInputData(triangles)
    writer.SetFileName(name)
    setup(writer)
    writer.Write()
for name, binary in [("surface_ascii.stl", False), ("surface_binary.stl", True)]:
    writer = vtk.vtkSTLWriter()
    writer.SetInputData(triangles)
    writer.SetFileName(name)
    writer.SetFileTypeToBinary() if binary else writer.SetFileTypeToASCII()
    writer.Write()
writer = vtk.vtkOBJWriter()
writer.SetInputData(triangles)
writer.SetFileName("surface.obj")
writer.Write()

points = np.array(POINTS)
np.save("points_f8.npy", points)
np.save("points_f4_fortran.npy", np.asfortranarray(points.astype("f4")))
np.save("points_i2_big.npy", np.array([[1, -2], [300, 4], [5, -6]], dtype=">i2"))
